import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0006_second_factor")]

    operations = [
        # The pieces of two and three characters of a user name and an e-mail address. pg_trgm does the same, but the
        # embedded PostgreSQL does not have it (docs/decisions/0009-parts-of-names-without-pg-trgm.md).
        migrations.RunSQL(
            """
            CREATE FUNCTION apikeys_name_parts(username text, email text) RETURNS text[]
            LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
                SELECT array_agg(DISTINCT substr(name, start, length))
                FROM (VALUES (lower(username)), (lower(email))) AS names (name),
                    generate_series(1, char_length(name)) AS start,
                    generate_series(2, 3) AS length
                WHERE start + length <= char_length(name) + 1
            $$;
            """,
            "DROP FUNCTION apikeys_name_parts(text, text)",
        ),
        migrations.AddIndex(
            model_name="account",
            index=django.contrib.postgres.indexes.GinIndex(
                models.Func(
                    models.F("username"),
                    models.F("email"),
                    function="apikeys_name_parts",
                    output_field=django.contrib.postgres.fields.ArrayField(models.TextField()),
                ),
                name="account_by_name_parts",
            ),
        ),
        migrations.AddIndex(
            model_name="account",
            index=models.Index(condition=models.Q(("is_staff", True)), fields=["username"], name="account_staff"),
        ),
    ]
