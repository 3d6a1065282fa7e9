from django.db import migrations

# What support staff may do: settle refills, and see what they need for it. No keys, no editing, no deletion.
SUPPORT = [
    ("apikeys", "account", "view_account", "Can view user"),
    ("orders", "service", "view_service", "Can view service"),
    ("orders", "order", "view_order", "Can view order"),
    ("refills", "refill", "view_refill", "Can view refill"),
    ("refills", "refill", "settle_refill", "Can settle refills"),
]


def create_support(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    group, _ = Group.objects.get_or_create(name="Support")
    for app_label, model, codename, name in SUPPORT:
        # Django makes these after the last migration; until then they may be missing.
        content_type, _ = ContentType.objects.get_or_create(app_label=app_label, model=model)
        permission, _ = Permission.objects.get_or_create(
            content_type=content_type, codename=codename, defaults={"name": name}
        )
        group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("refills", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_support, migrations.RunPython.noop)]
