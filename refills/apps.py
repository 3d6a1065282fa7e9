from django.apps import AppConfig


class RefillsConfig(AppConfig):
    name = "refills"

    def ready(self) -> None:
        from apikeys.staff import end_on_leaving  # all need the models
        from notpanel.kit.metrics import readers
        from notpanel.kit.retention import register
        from refills import metrics, retention
        from refills.settlement import release_all

        readers["refills"], readers["suppliers"] = metrics.read_refills, metrics.read_suppliers
        end_on_leaving("claims on refills released", release_all)
        register(*retention.ALL)
