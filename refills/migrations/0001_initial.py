import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import notpanel.public_id


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("apikeys", "0001_initial"),
        ("orders", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # The numbers of refills. They come from the database, as their default.
        migrations.RunSQL("CREATE SEQUENCE refills_refill_number", "DROP SEQUENCE refills_refill_number"),
        migrations.CreateModel(
            name="Refill",
            fields=[
                ("id", notpanel.public_id.PublicIdField(prefix="ref", primary_key=True, serialize=False)),
                (
                    "number",
                    models.PositiveBigIntegerField(
                        db_default=django.db.models.expressions.RawSQL("nextval('refills_refill_number')", ()),
                        editable=False,
                        unique=True,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("completed", "Completed"),
                            ("rejected", "Rejected"),
                        ],
                        default="pending",
                        max_length=20,
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("approved_at", models.DateTimeField(editable=False, null=True)),
                ("settled_at", models.DateTimeField(editable=False, null=True)),
                ("note", models.TextField(blank=True, help_text="By whoever settled it.")),
                (
                    "api_key",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        help_text="The key that it came by.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="apikeys.apikey",
                    ),
                ),
                (
                    "approved_by",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refills",
                        to="orders.order",
                    ),
                ),
                (
                    "settled_by",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "permissions": [("settle_refill", "Can settle refills")],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status__in", ("pending", "approved"))),
                        fields=["created_at", "id"],
                        name="refill_queue",
                    ),
                    models.Index(fields=["order", "created_at"], name="refill_history"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("status__in", ("pending", "approved"))),
                        fields=("order",),
                        name="refill_one_in_flight_per_order",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("settled_at__isnull", True),
                                ("settled_by__isnull", True),
                                ("status__in", ("pending", "approved")),
                            ),
                            models.Q(
                                ("settled_at__isnull", False),
                                ("settled_by__isnull", False),
                                ("status__in", ("completed", "rejected")),
                            ),
                            _connector="OR",
                        ),
                        name="refill_settled_has_who_and_when",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("approved_at__isnull", True),
                                ("approved_by__isnull", True),
                                models.Q(("status", "approved"), _negated=True),
                            ),
                            models.Q(
                                ("approved_at__isnull", False),
                                ("approved_by__isnull", False),
                                models.Q(("status", "pending"), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="refill_approved_has_who_and_when",
                    ),
                ],
            },
        ),
    ]
