import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import notpanel.kit.public_id


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
            name="RejectionReason",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.CharField(help_text="The customer reads this.", max_length=200, unique=True)),
                ("active", models.BooleanField(default=True, help_text="Offered to staff.")),
            ],
            options={
                "ordering": ["text"],
            },
        ),
        migrations.CreateModel(
            name="Refill",
            fields=[
                ("id", notpanel.kit.public_id.PublicIdField(prefix="ref", primary_key=True, serialize=False)),
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
                (
                    "delivered",
                    models.PositiveBigIntegerField(
                        editable=False, help_text="Units that were delivered again.", null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, editable=False, help_text="By whoever settled it; the customer does not see it."
                    ),
                ),
                ("claimed_at", models.DateTimeField(editable=False, null=True)),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refills",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
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
                    "claimed_by",
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
                    "service",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refills",
                        to="orders.service",
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
                (
                    "reason",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        help_text="Why it was rejected.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="refills.rejectionreason",
                    ),
                ),
            ],
            options={
                "permissions": [("settle_refill", "Can settle refills")],
            },
        ),
        migrations.CreateModel(
            name="Transition",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(editable=False)),
                (
                    "via",
                    models.CharField(
                        choices=[("admin", "Admin"), ("command", "Command"), ("API", "Api")],
                        editable=False,
                        max_length=10,
                    ),
                ),
                (
                    "from_status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("completed", "Completed"),
                            ("rejected", "Rejected"),
                        ],
                        editable=False,
                        max_length=20,
                    ),
                ),
                (
                    "to_status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("completed", "Completed"),
                            ("rejected", "Rejected"),
                        ],
                        editable=False,
                        max_length=20,
                    ),
                ),
                ("note", models.TextField(blank=True, editable=False)),
                (
                    "by",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "refill",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transitions",
                        to="refills.refill",
                    ),
                ),
            ],
            options={
                "ordering": ["at", "id"],
            },
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(
                condition=models.Q(("status__in", ("pending", "approved"))),
                fields=["created_at", "id"],
                name="refill_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["order", "created_at"], name="refill_history"),
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["status", "created_at", "id"], name="refill_by_status"),
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["service", "created_at", "id"], name="refill_by_service"),
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["account", "created_at", "id"], name="refill_by_account"),
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["settled_by", "created_at", "id"], name="refill_by_settler"),
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["settled_at"], name="refill_by_settlement"),
        ),
        migrations.AddConstraint(
            model_name="refill",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ("pending", "approved"))),
                fields=("order",),
                name="refill_one_in_flight_per_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="refill",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="refill",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="refill",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason__isnull", True), ("status", "rejected"), _connector="OR"),
                name="refill_reason_is_of_a_rejection",
            ),
        ),
        migrations.AddConstraint(
            model_name="refill",
            constraint=models.CheckConstraint(
                condition=models.Q(("delivered__isnull", True), ("status", "completed"), _connector="OR"),
                name="refill_delivered_is_completed",
            ),
        ),
        migrations.AddConstraint(
            model_name="refill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("claimed_at__isnull", True), ("claimed_by__isnull", True)),
                    models.Q(
                        ("claimed_at__isnull", False),
                        ("claimed_by__isnull", False),
                        ("status__in", ("pending", "approved")),
                    ),
                    _connector="OR",
                ),
                name="refill_claimed_has_who_and_when",
            ),
        ),
        # Transitions are written once.
        migrations.RunSQL(
            """
            CREATE FUNCTION refills_transition_is_final() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the history of a refill is never changed'; END $$;
            CREATE TRIGGER refills_transition_is_final BEFORE UPDATE OR DELETE ON refills_transition
            FOR EACH ROW EXECUTE FUNCTION refills_transition_is_final();
            """,
            """
            DROP TRIGGER refills_transition_is_final ON refills_transition;
            DROP FUNCTION refills_transition_is_final();
            """,
        ),
    ]
