import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0005_help_texts")]

    operations = [
        # What ways to write a link have in common: lower case, without scheme, "www." or "m.", fragment and trailing
        # slashes. 200 characters at most, because a B-tree index takes no longer links.
        migrations.RunSQL(
            r"""
            CREATE FUNCTION orders_link_key(link text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
                SELECT left(
                    regexp_replace(
                        regexp_replace(
                            lower(link), '^\s*([a-z][a-z0-9+.-]*://)?/*((www|m)\.)?|#.*$|[\s/?&]+$', '', 'g'
                        ),
                        '/+(\?|$)|[/?&]+$', '\1'
                    ),
                    200
                )
            $$;
            """,
            "DROP FUNCTION orders_link_key(text)",
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(
                django.contrib.postgres.indexes.OpClass(
                    models.Func(models.F("link"), function="orders_link_key", output_field=models.TextField()),
                    name="text_pattern_ops",
                ),
                name="order_by_link_key",
            ),
        ),
    ]
