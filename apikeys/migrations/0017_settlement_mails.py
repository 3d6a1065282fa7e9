import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import notpanel.kit.transaction_id


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0016_confirmed_email"),
    ]

    operations = [
        migrations.CreateModel(
            name="SettlementMails",
            fields=[
                (
                    "account",
                    models.OneToOneField(
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="settlement_mails",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("site", models.CharField(editable=False, max_length=300)),
                (
                    "told_until",
                    notpanel.kit.transaction_id.TransactionIdField(
                        db_default=django.db.models.expressions.RawSQL("pg_current_xact_id()", ()), editable=False
                    ),
                ),
                (
                    "next_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, help_text="No mail is sent before."
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.AlterField(
            model_name="auditevent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("signed_in", "Signed in"),
                    ("sign_in_failed", "Failed to sign in"),
                    ("proof_failed", "Failed to prove the password"),
                    ("locked", "Reached a limit of attempts"),
                    ("signed_out", "Signed out"),
                    ("password_changed", "Password changed"),
                    ("password_reset", "Password reset by mail"),
                    ("key_created", "API key created"),
                    ("key_changed", "API key changed"),
                    ("key_rotated", "API key rotated"),
                    ("key_revoked", "API key revoked"),
                    ("factor_enabled", "Second factor set up"),
                    ("factor_disabled", "Second factor taken away"),
                    ("factor_reset", "Second factor reset"),
                    ("code_failed", "Failed to give a code"),
                    ("recovery_codes", "New recovery codes"),
                    ("recovery_code_used", "Recovery code used"),
                    ("account_created", "Account created"),
                    ("account_changed", "Account changed"),
                    ("rights_changed", "Rights changed"),
                    ("group_changed", "Group changed"),
                    ("invited", "Invited"),
                    ("left", "Left the staff"),
                    ("panel_key_created", "Panel key created"),
                    ("panel_key_revoked", "Panel key revoked"),
                    ("mails_chosen", "Mails chosen"),
                    ("webhook_added", "Webhook added"),
                    ("webhook_changed", "Webhook changed"),
                    ("webhook_rotated", "Webhook secret rotated"),
                    ("webhook_removed", "Webhook removed"),
                ],
                editable=False,
                max_length=20,
                verbose_name="what",
            ),
        ),
    ]
