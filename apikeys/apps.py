from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    name = "apikeys"
    verbose_name = "Accounts and API keys"

    def ready(self) -> None:
        from apikeys import retention, signals  # both need the models
        from notpanel.kit.retention import register

        signals.connect()
        register(*retention.ALL)
