from django.db import migrations

PERMISSIONS = {
    "view_account": ("apikeys", "account", "Can view user"),
    "suspend_account": ("apikeys", "account", "Can suspend and restore accounts"),
    "view_service": ("orders", "service", "Can view service"),
    "view_order": ("orders", "order", "Can view order"),
    "view_refill": ("refills", "refill", "Can view refill"),
    "settle_refill": ("refills", "refill", "Can settle refills"),
    "request_refill": ("refills", "refill", "Can request refills for customers"),
    "reopen_refill": ("refills", "refill", "Can reopen refills"),
    "view_agent_figures": ("refills", "refill", "Can see figures of agents"),
    "view_rejectionreason": ("refills", "rejectionreason", "Can view rejection reason"),
    "add_rejectionreason": ("refills", "rejectionreason", "Can add rejection reason"),
    "change_rejectionreason": ("refills", "rejectionreason", "Can change rejection reason"),
}
SUPPORT = ["view_account", "view_service", "view_order", "view_refill", "settle_refill", "request_refill"]
LEAD = list(PERMISSIONS)  # a lead is in this group alone


def create_roles(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for name, codenames in {"Support": SUPPORT, "Lead": LEAD}.items():
        group, _ = Group.objects.get_or_create(name=name)
        for codename in codenames:
            # Django makes these after the last migration; until then they may be missing.
            app_label, model, label = PERMISSIONS[codename]
            content_type, _ = ContentType.objects.get_or_create(app_label=app_label, model=model)
            permission, _ = Permission.objects.get_or_create(
                content_type=content_type, codename=codename, defaults={"name": label}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("refills", "0008_figures_of_agents"),
        ("apikeys", "0009_staff_events"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="refill",
            options={
                "permissions": [
                    ("settle_refill", "Can settle refills"),
                    ("reopen_refill", "Can reopen refills"),
                    ("view_agent_figures", "Can see figures of agents"),
                    ("request_refill", "Can request refills for customers"),
                ]
            },
        ),
        migrations.RunPython(create_roles, migrations.RunPython.noop),
    ]
