import django.contrib.postgres.indexes
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import notpanel.kit.public_id


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Service",
            fields=[
                ("id", models.PositiveIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                ("category", models.CharField(max_length=255)),
                ("type", models.CharField(default="Default", max_length=50)),
                ("rate", models.DecimalField(decimal_places=5, help_text="The price of 1000 units.", max_digits=14)),
                ("min", models.PositiveBigIntegerField()),
                ("max", models.PositiveBigIntegerField()),
                ("refill", models.BooleanField(default=False, help_text="Drops are refilled.")),
                ("cancel", models.BooleanField(default=False)),
                ("active", models.BooleanField(default=True, help_text="Listed in the catalogue.")),
                (
                    "refill_days",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Days after completion in which refills may be requested; empty: no end.",
                        null=True,
                        verbose_name="refill period",
                    ),
                ),
                (
                    "refill_limit",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Refills per order, rejected ones not counted; empty: the setting REFILL_LIMIT.",
                        null=True,
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("rate__gte", 0)), name="service_rate_is_not_negative"),
                    models.CheckConstraint(
                        condition=models.Q(("max__gte", models.F("min"))), name="service_max_is_not_below_min"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("refill_days__isnull", True), ("refill_days__gte", 1), _connector="OR"),
                        name="service_refill_days_is_positive",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("refill_limit__isnull", True), ("refill_limit__gte", 1), _connector="OR"),
                        name="service_refill_limit_is_positive",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", notpanel.kit.public_id.PublicIdField(prefix="ord", primary_key=True, serialize=False)),
                ("number", models.PositiveBigIntegerField(unique=True)),
                ("link", models.CharField(max_length=2048)),
                ("quantity", models.PositiveBigIntegerField()),
                ("charge", models.DecimalField(decimal_places=5, max_digits=14)),
                ("currency", models.CharField(default="USD", max_length=3)),
                ("start_count", models.PositiveBigIntegerField(blank=True, null=True)),
                ("remains", models.PositiveBigIntegerField(blank=True, null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("processing", "Processing"),
                            ("in_progress", "In Progress"),
                            ("completed", "Completed"),
                            ("partial", "Partial"),
                            ("cancelled", "Cancelled"),
                            ("refunded", "Refunded"),
                        ],
                        default="pending",
                        max_length=20,
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("completed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="orders", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "service",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="orders", to="orders.service"
                    ),
                ),
            ],
            options={
                "indexes": [
                    django.contrib.postgres.indexes.HashIndex(fields=["link"], name="order_by_link"),
                    models.Index(fields=["completed_at"], name="order_by_completion"),
                ],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("number__gte", 1)), name="order_number_is_positive"),
                    models.CheckConstraint(condition=models.Q(("quantity__gte", 1)), name="order_quantity_is_positive"),
                    models.CheckConstraint(condition=models.Q(("charge__gte", 0)), name="order_charge_is_not_negative"),
                    models.CheckConstraint(
                        condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="order_currency_is_a_code"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "status__in",
                                [
                                    "pending",
                                    "processing",
                                    "in_progress",
                                    "completed",
                                    "partial",
                                    "cancelled",
                                    "refunded",
                                ],
                            )
                        ),
                        name="order_status_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status__in", ("completed", "partial")), _negated=True),
                            ("completed_at__isnull", False),
                            _connector="OR",
                        ),
                        name="order_delivered_has_its_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status__in", ("pending", "processing", "in_progress")), _negated=True),
                            ("completed_at__isnull", True),
                            _connector="OR",
                        ),
                        name="order_under_way_has_no_end",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("completed_at__isnull", True),
                            ("completed_at__gte", models.F("created_at")),
                            _connector="OR",
                        ),
                        name="order_ends_after_it_began",
                    ),
                ],
            },
        ),
    ]
