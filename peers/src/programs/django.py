"""django-pglock as a peer: reads lines `WORK COUNT`, and prints the seconds of one call."""

import sys
import time
from datetime import timedelta

import django
from django.conf import settings

HOST, PORT = sys.argv[1:]
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": HOST,
    "PORT": PORT,
}
settings.configure(DATABASES={"default": DATABASE}, INSTALLED_APPS=["pgactivity", "pglock"])
django.setup()

import pglock  # noqa: E402: needs the settings
from django.db import models, transaction  # noqa: E402


class Account(models.Model):
    class Meta:
        app_label = "bench"
        db_table = "accounts"
        managed = False


def advisory():
    with pglock.advisory("django"):
        pass


def table_lock():
    with transaction.atomic():
        pglock.model(Account, mode=pglock.SHARE, timeout=timedelta(seconds=2))


WORKS = {"advisory": advisory, "table_lock": table_lock}

print("ready", flush=True)
for line in sys.stdin:
    work, count = line.split()
    call, count = WORKS[work], int(count)
    start = time.perf_counter()
    for _ in range(count):
        call()
    print((time.perf_counter() - start) / count, flush=True)
