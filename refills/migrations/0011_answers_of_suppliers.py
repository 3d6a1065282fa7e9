from django.db import migrations

# Words that suppliers refuse with: what is done, the reason that the customer reads, the hours after which the refill
# is sent again, and whether our catalogue promises what is refused.
TEXTS = [
    ("Incorrect order ID", "person", None, None, False),
    ("Refill is disabled for this service", "reject", "The service is not refilled any longer.", None, True),
    ("The order is not completed", "reject", "The order is not completed yet.", None, True),
    ("requested less than 24 hours ago", "retry", None, 24, False),
    ("The refill task is not completed for this order", "retry", None, 24, False),
    ("Refill days are over", "reject", "The refill period of the order is over.", None, True),
    ("Refill not found", "person", None, None, False),
    # Of the connection, not of the refill.
    ("Invalid API key", "retry", None, 1, False),
    ("Rate limit exceeded", "retry", None, 1, False),
]

PERMISSIONS = {
    "view_dispatch": ("refills", "dispatch", "Can view dispatch"),
    "view_supplier": ("orders", "supplier", "Can view supplier"),
    "view_suppliertext": ("refills", "suppliertext", "Can view answer of suppliers"),
    "add_suppliertext": ("refills", "suppliertext", "Can add answer of suppliers"),
    "change_suppliertext": ("refills", "suppliertext", "Can change answer of suppliers"),
    "delete_suppliertext": ("refills", "suppliertext", "Can delete answer of suppliers"),
}
SUPPORT = ["view_dispatch"]
LEAD = list(PERMISSIONS)


def create_texts(apps, schema_editor):
    SupplierText = apps.get_model("refills", "SupplierText")
    RejectionReason = apps.get_model("refills", "RejectionReason")
    for text, action, reason, hours, breaks_promise in TEXTS:
        # Not offered to agents, who have reasons of their own.
        found = reason and RejectionReason.objects.get_or_create(text=reason, defaults={"active": False})[0]
        SupplierText.objects.get_or_create(
            text=text,
            defaults={"action": action, "reason": found, "hours": hours, "breaks_promise": breaks_promise},
        )


def extend_roles(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for name, codenames in {"Support": SUPPORT, "Lead": LEAD}.items():
        group = Group.objects.filter(name=name).first()
        for codename in codenames if group else ():
            # Django makes these after the last migration; until then they may be missing.
            app_label, model, label = PERMISSIONS[codename]
            content_type, _ = ContentType.objects.get_or_create(app_label=app_label, model=model)
            permission, _ = Permission.objects.get_or_create(
                content_type=content_type, codename=codename, defaults={"name": label}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [("refills", "0010_suppliers")]

    operations = [
        migrations.RunPython(create_texts, migrations.RunPython.noop),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]
