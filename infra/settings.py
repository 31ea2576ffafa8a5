"""Where the local stack lives: ports, directories, endpoints. The only reader of os.environ in infra/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Ports on 127.0.0.1 and the directory that holds everything the local stack writes."""

    emulator_port: int
    api_port: int
    merchant_port: int
    sandbox_port: int  # the root; the bank's providers listen on the ports above it
    home: Path

    @property
    def endpoint(self) -> str:
        """The emulator's edge."""
        return f"http://{HOST}:{self.emulator_port}"

    @property
    def api_url(self) -> str:
        """The front, which is what merchants and browsers use."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def sandbox_url(self) -> str:
        """The sandbox bank's root."""
        return f"http://{HOST}:{self.sandbox_port}"

    @property
    def merchant_url(self) -> str:
        """The demo merchant's webhook receiver."""
        return f"http://{HOST}:{self.merchant_port}"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.home / "logs"


def local_settings() -> LocalSettings:
    """Read the ports and the home of the local stack from the environment.

    ``RAILYARD_PORT_BASE=B`` moves everything (emulator B, API B+1, merchant B+2, bank B+10 and up), so that
    a second stack can run beside the first; ``RAILYARD_HOME`` moves ``.railyard``. Single ports can be moved
    with ``RAILYARD_EMULATOR_PORT``, ``RAILYARD_API_PORT``, ``RAILYARD_MERCHANT_PORT``, ``RAILYARD_SANDBOX_PORT``.
    """
    base = os.environ.get("RAILYARD_PORT_BASE")
    if base is None:
        emulator, api, merchant, sandbox = 4566, 8000, 8090, 8100
    else:
        emulator, api, merchant, sandbox = (int(base) + offset for offset in (0, 1, 2, 10))
    return LocalSettings(
        emulator_port=int(os.environ.get("RAILYARD_EMULATOR_PORT", emulator)),
        api_port=int(os.environ.get("RAILYARD_API_PORT", api)),
        merchant_port=int(os.environ.get("RAILYARD_MERCHANT_PORT", merchant)),
        sandbox_port=int(os.environ.get("RAILYARD_SANDBOX_PORT", sandbox)),
        home=Path(os.environ.get("RAILYARD_HOME", ROOT / ".railyard")).resolve(),
    )


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """What deploy.py takes from the environment; None means: ask the AWS SDK."""

    endpoint: str | None
    region: str | None
    public_base_url: str | None
    provider_base_urls: str | None
    alarm_topic_arn: str | None
    workflow_type: str | None


def deploy_settings() -> DeploySettings:
    """Read the deploy options that CI sets rather than types."""
    return DeploySettings(
        endpoint=os.environ.get("AWS_ENDPOINT_URL") or None,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        public_base_url=os.environ.get("RAILYARD_PUBLIC_BASE_URL") or None,
        provider_base_urls=os.environ.get("RAILYARD_PROVIDER_BASE_URLS") or None,
        alarm_topic_arn=os.environ.get("RAILYARD_ALARM_TOPIC_ARN") or None,
        workflow_type=os.environ.get("RAILYARD_WORKFLOW_TYPE") or None,
    )


def dynamodb_local_url() -> str | None:
    """Where a DynamoDB Local listens that the storage contract shall also hold on (infra/dynamodb_local.py)."""
    return os.environ.get("RAILYARD_DYNAMODB_LOCAL_URL") or None


# Nothing of the caller's own AWS set-up may reach the emulator, its Lambda workers or a packaging run.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CERT",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
)


def child_environment(**extra: str) -> dict[str, str]:
    """Return a small environment for a child process, with dummy AWS credentials and ``extra`` on top."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return env | extra
