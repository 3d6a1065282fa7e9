from django.db import migrations

# The histories are never changed, with two exceptions, which apikeys/migrations/0018_erased_accounts.py describes.
GUARD = """
    CREATE OR REPLACE FUNCTION refills_transition_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        personal CONSTANT text[] := '{note,reason_text,text,words}';
        was CONSTANT jsonb := to_jsonb(OLD);
        becomes jsonb;
    BEGIN
        IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'refills_dispatchstep' AND apikeys_may_be_forgotten(OLD.at) THEN
            RETURN OLD;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            becomes := to_jsonb(NEW);
            IF becomes - personal = was - personal
                AND NOT EXISTS (
                    SELECT FROM jsonb_each_text(becomes) AS change (name, value)
                    WHERE name = ANY(personal) AND value <> '(erased)' AND value <> was ->> name
                )
                AND EXISTS (
                    SELECT FROM refills_refill
                    WHERE id = coalesce(was ->> 'refill_id', was ->> 'dispatch_id')::uuid
                        AND apikeys_is_erased(account_id)
                )
            THEN
                RETURN NEW;
            END IF;
        END IF;
        RAISE EXCEPTION 'the history of a refill is never changed';
    END $$;
"""
EARLIER_GUARD = """
    CREATE OR REPLACE FUNCTION refills_transition_is_final() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the history of a refill is never changed'; END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("refills", "0013_the_order_of_changes"), ("apikeys", "0018_erased_accounts")]

    operations = [migrations.RunSQL(GUARD, EARLIER_GUARD)]
