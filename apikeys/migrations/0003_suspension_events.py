import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Cast


def move_from_the_log(apps, schema_editor):
    """Make an event of each entry “Suspended: …” or “Restored: …” in the admin's log, and delete the entry."""
    accounts, event_model = apps.get_model("apikeys", "Account").objects, apps.get_model("apikeys", "SuspensionEvent")
    entries = apps.get_model("admin", "LogEntry").objects.filter(
        content_type__app_label="apikeys",
        content_type__model="account",
        change_message__regex="^(Suspended|Restored): .",
        object_id__in=accounts.annotate(text=Cast("pk", models.TextField())).values("text"),
    )
    events = []
    for entry in entries.order_by("pk"):
        kind, _, reason = entry.change_message.partition(": ")
        events.append(
            event_model(
                account_id=int(entry.object_id),
                by_id=entry.user_id,
                at=entry.action_time,
                kind=kind.lower(),
                reason=reason,
            )
        )
    event_model.objects.bulk_create(events, batch_size=1000)
    entries.delete()


def move_to_the_log(apps, schema_editor):
    entry_model = apps.get_model("admin", "LogEntry")
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="apikeys", model="account"
    )
    entry_model.objects.bulk_create(
        [
            entry_model(
                content_type=content_type,
                object_id=str(event.account_id),
                object_repr=event.account.username[:200],
                user_id=event.by_id,
                action_time=event.at,
                action_flag=2,  # a change
                change_message=f"{event.kind.title()}: {event.reason}",
            )
            for event in apps.get_model("apikeys", "SuspensionEvent").objects.select_related("account").order_by("pk")
        ],
        batch_size=1000,
    )


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0002_rotation_networks_expiry"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterField(
            model_name="apikey",
            name="allowed_networks",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=43),
                blank=True,
                default=list,
                help_text="Addresses and networks (203.0.113.0/24) from which it may be used; empty: from everywhere.",
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="expires_at",
            field=models.DateTimeField(
                blank=True, help_text="It is refused from this time on; empty: it never expires.", null=True
            ),
        ),
        migrations.CreateModel(
            name="SuspensionEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(editable=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[("suspended", "Suspended"), ("restored", "Restored")], editable=False, max_length=10
                    ),
                ),
                ("reason", models.TextField(editable=False)),
                (
                    "account",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="suspension_events",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
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
            ],
            options={
                "ordering": ["at", "id"],
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["suspended", "restored"])), name="suspension_kind_is_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="suspension_has_a_reason"
                    ),
                ],
            },
        ),
        migrations.RunPython(move_from_the_log, move_to_the_log),
        # Events are written once.
        migrations.RunSQL(
            """
            CREATE FUNCTION apikeys_suspensionevent_is_final() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the suspensions of an account are never changed'; END $$;
            CREATE TRIGGER apikeys_suspensionevent_is_final BEFORE UPDATE OR DELETE ON apikeys_suspensionevent
            FOR EACH ROW EXECUTE FUNCTION apikeys_suspensionevent_is_final();
            """,
            """
            DROP TRIGGER apikeys_suspensionevent_is_final ON apikeys_suspensionevent;
            DROP FUNCTION apikeys_suspensionevent_is_final();
            """,
        ),
    ]
