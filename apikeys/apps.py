from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    name = "apikeys"
    verbose_name = "Accounts and API keys"

    def ready(self) -> None:
        from apikeys import signals  # they need the models
        from apikeys.webhooks import metrics
        from notpanel.kit.metrics import readers

        readers["webhooks"] = metrics.read
        signals.connect()
