"""The colours of the desk's badges, by the names that the admin theme gives them."""

STATUS_COLOURS = {
    "pending": "info",
    "approved": "primary",
    "completed": "success",
    "rejected": "danger",
}

TIMELINESS_COLOURS = {
    "on time": "success",
    "due soon": "warning",
    "late": "danger",
    "settled": "info",
}

RULE_COLOURS = {
    "passed": "success",
    "failed": "danger",
}
