from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0004_a_refills_order"),
    ]

    operations = [
        migrations.AlterField(
            model_name="service",
            name="refill",
            field=models.BooleanField(default=False, help_text="Customers may request refills."),
        ),
        migrations.AlterField(
            model_name="service",
            name="refill_limit",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Refills per order, not counting rejected ones; empty: the setting REFILL_LIMIT.",
                null=True,
            ),
        ),
    ]
