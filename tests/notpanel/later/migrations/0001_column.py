from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Thing", [("id", models.BigAutoField(primary_key=True)), ("number", models.IntegerField())]
        ),
        migrations.RunSQL(
            "ALTER TABLE orders_service ADD COLUMN later integer NOT NULL DEFAULT 0",
            "ALTER TABLE orders_service DROP COLUMN later",
        ),
    ]
