"""What tests share. Importing it points this process's environment at nothing real."""

from tests.support.aws import set_environment

set_environment()
