import pytest
from cryptography.fernet import Fernet

from notpanel.kit import secrets


def test_what_was_encrypted_is_read_again_and_not_stored_in_clear_text():
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


def test_a_secret_key_that_was_replaced_still_decrypts(settings):
    old = settings.SECRET_KEY
    token = secrets.encrypt("their-key")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a new one", [old]

    assert secrets.decrypt(token) == "their-key"
    assert not secrets.is_by_first_key(token)
    anew = secrets.encrypt_anew(token)
    settings.SECRET_KEY_FALLBACKS = []
    assert secrets.is_by_first_key(anew)
    assert secrets.decrypt(anew) == "their-key"


def test_processes_read_each_others_secrets_while_keys_are_replaced_in_two_steps(settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    tokens = []
    for keys in ([old], [old, new], [new, old]):
        settings.ENCRYPTION_KEYS = keys
        tokens.append(secrets.encrypt("their-key"))

    for step, keys in enumerate([[old], [old, new], [new, old]]):
        settings.ENCRYPTION_KEYS = keys
        # While one process is at a step, others may be at the step before or after it, but no further away.
        assert [secrets.decrypt(token) for token in tokens[: step + 2]] == ["their-key"] * min(step + 2, 3)


def test_without_the_key_nothing_is_read(settings):
    token = secrets.encrypt("their-key")
    settings.SECRET_KEY = "another one"

    for read in (secrets.decrypt, secrets.encrypt_anew):
        with pytest.raises(secrets.Undecipherable):
            read(token)
