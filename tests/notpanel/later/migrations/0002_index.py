from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notpanel", "0001_column")]
    operations = [AddIndexConcurrently("thing", models.Index(fields=["number"], name="thing_number"))]
