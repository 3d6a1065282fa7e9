"""How Django writes times in the admin by itself: as ``time_tag`` does, with the time zone."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = "Y-m-d H:i T"
