import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0007_suppliers")]

    operations = [
        # Requests for refills of such services failed, or will not see the end of their period anyway.
        migrations.RunSQL(
            "UPDATE orders_service SET refill_days = 36500 WHERE refill_days > 36500", migrations.RunSQL.noop
        ),
        migrations.AlterField(
            model_name="service",
            name="refill_days",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Days after completion in which refills may be requested; empty: no end.",
                null=True,
                validators=[django.core.validators.MaxValueValidator(36500)],
                verbose_name="refill period",
            ),
        ),
        migrations.AddConstraint(
            model_name="service",
            constraint=models.CheckConstraint(
                condition=models.Q(("refill_days__isnull", True), ("refill_days__lte", 36500), _connector="OR"),
                name="service_refill_days_is_a_century_at_most",
            ),
        ),
    ]
