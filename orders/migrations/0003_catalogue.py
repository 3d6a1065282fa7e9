from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0002_customers_lists"),
    ]

    operations = [
        migrations.CreateModel(
            name="Catalogue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.UUIDField(editable=False)),
            ],
        ),
        # Before the statement, so that a transaction that changes services locks this row first, and then theirs.
        migrations.RunSQL(
            """
            CREATE FUNCTION orders_catalogue_has_changed() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN
                INSERT INTO orders_catalogue (id, version) VALUES (1, gen_random_uuid())
                ON CONFLICT (id) DO UPDATE SET version = excluded.version;
                RETURN NULL;
            END $$;
            CREATE TRIGGER orders_catalogue_has_changed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON orders_service
            FOR EACH STATEMENT EXECUTE FUNCTION orders_catalogue_has_changed();
            INSERT INTO orders_catalogue (id, version) VALUES (1, gen_random_uuid());
            """,
            """
            DROP TRIGGER orders_catalogue_has_changed ON orders_service;
            DROP FUNCTION orders_catalogue_has_changed();
            """,
        ),
    ]
