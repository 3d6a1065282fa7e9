from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0018_erased_accounts")]

    operations = [ValidateConstraint("account", "account_erased_is_empty")]
