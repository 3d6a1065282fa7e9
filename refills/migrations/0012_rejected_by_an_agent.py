from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("refills", "0011_answers_of_suppliers")]

    operations = [
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(
                condition=models.Q(("status", "rejected")),
                fields=["settled_by", "settled_at", "id"],
                name="refill_rejected_by_settler",
            ),
        ),
    ]
