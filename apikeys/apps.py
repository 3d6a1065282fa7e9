from django.apps import AppConfig


class ApiKeysConfig(AppConfig):
    name = "apikeys"
    verbose_name = "Accounts and API keys"

    def ready(self) -> None:
        from apikeys import signals  # it needs the models

        signals.connect()
