from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    name = "apikeys"
    verbose_name = "Accounts and API keys"

    def ready(self) -> None:
        from apikeys import retention, signals  # all need the models
        from apikeys.webhooks import metrics
        from notpanel.kit.metrics import readers
        from notpanel.kit.retention import register

        readers["webhooks"] = metrics.read
        signals.connect()
        register(*retention.ALL)
