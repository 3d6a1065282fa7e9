from django.db import migrations, models
from django.db.models.expressions import RawSQL

import notpanel.kit.transaction_id


class Migration(migrations.Migration):
    dependencies = [("refills", "0012_rejected_by_an_agent")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                # A constant default, so that the table is not written anew: earlier refills come first in the list.
                migrations.RunSQL(
                    """
                    ALTER TABLE refills_refill ADD COLUMN changed_in xid8 NOT NULL DEFAULT '0';
                    ALTER TABLE refills_refill ALTER COLUMN changed_in SET DEFAULT pg_current_xact_id();
                    """,
                    "ALTER TABLE refills_refill DROP COLUMN changed_in",
                ),
            ],
            state_operations=[
                migrations.AddField(
                    model_name="refill",
                    name="changed_in",
                    field=notpanel.kit.transaction_id.TransactionIdField(
                        db_default=RawSQL("pg_current_xact_id()", ()), editable=False
                    ),
                ),
            ],
        ),
        migrations.RunSQL(
            """
            CREATE FUNCTION refills_refill_changed() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.changed_in := pg_current_xact_id(); RETURN NEW; END $$;
            CREATE TRIGGER refills_refill_changed BEFORE UPDATE OF status ON refills_refill
            FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION refills_refill_changed();
            """,
            """
            DROP TRIGGER refills_refill_changed ON refills_refill;
            DROP FUNCTION refills_refill_changed();
            """,
        ),
        migrations.AddIndex(
            model_name="refill",
            index=models.Index(fields=["account", "status", "changed_in", "id"], name="refill_by_change"),
        ),
    ]
