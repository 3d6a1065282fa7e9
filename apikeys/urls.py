"""The pages of /dashboard/ that are about the account: keys, webhooks, password, second factor, signing in and out."""

from django.urls import path

from apikeys import second_factor_views, views
from apikeys.webhooks import views as webhook_views

urlpatterns = [
    path("api/", views.keys, name="keys"),
    path("api/<int:key_id>/", views.key, name="key"),
    path("api/<int:key_id>/change/", views.change_key, name="change-key"),
    path("api/<int:key_id>/revoke/", views.revoke, name="revoke"),
    path("webhooks/", webhook_views.webhooks, name="webhooks"),
    path("webhooks/<str:endpoint_id>/", webhook_views.webhook, name="webhook"),
    path("webhooks/<str:endpoint_id>/<str:what>/", webhook_views.change, name="change-webhook"),
    path("email/", views.email, name="email"),
    path("email/settlements/", views.settlement_mails, name="settlement-mails"),
    path("email/confirm/<str:token>/", views.confirm_email, name="confirm-email"),
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-in/code/", second_factor_views.sign_in_code, name="sign-in-code"),
    path("second-factor/", second_factor_views.overview, name="second-factor"),
    path("second-factor/confirm/", second_factor_views.confirm, name="second-factor-confirm"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("password/", views.ChangePassword.as_view(), name="change-password"),
    path("password/changed/", views.password_changed, name="password-changed"),
    path("password/reset/", views.reset_password, name="reset-password"),
    path("password/reset/sent/", views.reset_sent, name="reset-sent"),
    path("password/reset/<uidb64>/<token>/", views.SetPassword.as_view(), name="set-password"),
    path("password/set/", views.password_set, name="password-set"),
]
