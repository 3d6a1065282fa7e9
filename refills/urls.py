"""The pages of /dashboard/ that are about orders and refills."""

from django.urls import path

from refills import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("orders/", views.orders, name="orders"),
    path("orders/refill/", views.refill, name="refill"),
    path("orders/list/", views.refill_list, name="refill-list"),
    path("orders/<str:reference>/", views.order, name="order"),
    path("refills/", views.refills, name="refills"),
    path("refills/csv/", views.history, name="history"),
]
