from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # so that dispatches are written meanwhile

    dependencies = [("refills", "0014_what_may_be_erased")]

    operations = [
        AddIndexConcurrently(
            model_name="dispatch",
            index=models.Index(fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="dispatch_age"),
        ),
    ]
