import pytest
from cryptography.fernet import Fernet

from notpanel.kit import secrets


def test_what_was_encrypted_is_read_again_and_not_stored_in_clear():
    token = secrets.encrypt("their-key")

    assert "their-key" not in token
    assert secrets.decrypt(token) == "their-key"


def test_a_new_key_encrypts_and_the_old_ones_still_decrypt(settings):
    derived = secrets.encrypt("their-key")
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [old]
    token = secrets.encrypt_anew(derived)
    settings.ENCRYPTION_KEYS = [new, old]

    assert secrets.decrypt(derived) == secrets.decrypt(token) == "their-key"
    token = secrets.encrypt_anew(token)
    settings.ENCRYPTION_KEYS = [new]
    assert secrets.decrypt(token) == "their-key"


def test_without_the_key_nothing_is_read(settings):
    token = secrets.encrypt("their-key")
    settings.SECRET_KEY = "another one"

    for read in (secrets.decrypt, secrets.encrypt_anew):
        with pytest.raises(secrets.Undecipherable):
            read(token)
