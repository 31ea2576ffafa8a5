"""Package, upload, change set, outputs: one path for AWS, LocalStack and the embedded emulator.

``python -m infra.deploy STAGE`` packages with ``chalice package --merge-template``, uploads the zip and the
template to a bucket, makes and executes a change set, and prints the stack's outputs. When nothing that goes
into the package has changed since the stack was last deployed, it only reads the outputs.

What the merge template cannot say is done here, and only that:

* the state machine's definition is a file of its own (``payment.asl.json``), so that it can be read, linted and
  interpreted by tests; its content is put into the template;
* a GatewayResponse takes effect with the next deployment of the API, and SAM's own deployment resource cannot be
  made to wait for it: one more deployment is made after the stack;
* the emulator ignores TimeToLiveSpecification and ReservedConcurrentExecutions in CloudFormation: what the
  template asks for is compared with what is there and set where it differs, which on AWS is nowhere.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import json
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from localstack_client.config import get_service_endpoint

from infra.sandbox import places
from infra.settings import HOST, REGION, ROOT, child_environment, deploy_settings, local_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STAGES = ("local", "localstack", "dev", "prod")
_INPUTS = (
    "app.py",
    "chalicelib",
    ".chalice",
    "infra/resources.yaml",
    "infra/payment.asl.json",
    "infra/deploy.py",
    "infra/constraints.txt",
    "requirements.txt",
)
_DIGEST_TAG = "railyard-digest"
_SETTLED = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_NOT_KNOWN_YET = "https://pending.invalid"


class DeployError(Exception):
    """The deployment did not happen; the message says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """A packaged application: the SAM template and the path of the Lambda zip."""

    template: dict[str, Any]
    zip_path: Path


@dataclass(frozen=True, slots=True)
class Target:
    """Where to deploy. ``endpoint`` is None on AWS; times are in seconds."""

    stage: str
    endpoint: str | None
    region: str
    poll: float

    @property
    def stack(self) -> str:
        """The stack's name."""
        return f"railyard-{self.stage}"

    def client(self, service: str) -> Any:
        """Return a boto3 client for this target."""
        dummy = None if self.endpoint is None else "test"
        return boto3.session.Session(dummy, dummy, region_name=self.region).client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            config=Config(
                retries={"mode": "standard", "max_attempts": 2 if self.endpoint else 5},
                s3={"addressing_style": "path" if self.endpoint else "auto"},
            ),
        )


def target_for(stage: str, endpoint: str | None = None) -> Target:
    """Find the endpoint and region of a stage; the caller's endpoint wins, then AWS_ENDPOINT_URL."""
    settings = deploy_settings()
    endpoint = endpoint or settings.endpoint
    if endpoint is None and stage == "local":
        endpoint = local_settings().endpoint
    if endpoint is None and stage == "localstack":
        endpoint = str(get_service_endpoint("cloudformation"))
    if endpoint is not None:
        return Target(stage, endpoint, REGION, poll=0.1)
    region = settings.region or boto3.session.Session().region_name
    if not region:
        message = "No AWS region. Set AWS_REGION, or run `aws configure`."
        raise DeployError(message)
    return Target(stage, None, region, poll=3.0)


# ---------------------------------------------------------------- package


def _files() -> Iterator[Path]:
    for name in _INPUTS:
        path = ROOT / name
        if path.is_dir():
            yield from (
                file
                for file in sorted(path.rglob("*"))
                if file.is_file() and "__pycache__" not in file.parts and "deployments" not in file.parts
            )
        else:
            yield path


def digest_of(stage: str) -> str:
    """Hash everything that goes into the package of ``stage``, file names and Python version included."""
    digest = hashlib.sha256(f"{stage} {sys.version_info[:2]}".encode())
    for file in _files():
        digest.update(f"\0{file.relative_to(ROOT)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _runtime_requirements(stage: str) -> str:
    # The emulator's Lambda workers run on its own interpreter, which has the pinned requirements already:
    # vendoring them again would cost 15-40 s and a 30 MB zip at each change of a source file, for the same
    # modules. Every other stage vendors. Chalice adds its own runtime to the zip; vendoring it from here would
    # add its whole command line (pip, setuptools, ...).
    if stage == "local":
        return ""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("chalice==")) + "\n"


def package(stage: str, build: Path) -> Package:
    """Run ``chalice package`` on a copy of the sources under ``build`` and read what it made.

    A copy, because chalice keeps its caches inside the project it packages and because the copy's
    requirements.txt is not the repository's (see ``_runtime_requirements``).
    """
    source, out = build / "src", build / "out"
    for stale in (source, out):
        shutil.rmtree(stale, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "deployments", "deployed", "*.pyc")
    source.mkdir(parents=True)
    shutil.copy2(ROOT / "app.py", source)
    for directory in ("chalicelib", ".chalice"):
        shutil.copytree(ROOT / directory, source / directory, ignore=ignore)
    (source / "requirements.txt").write_text(_runtime_requirements(stage))
    command = [
        sys.executable,
        "-c",
        "from chalice.cli import main; raise SystemExit(main())",
        "package",
        "--stage",
        stage,
        "--merge-template",
        str(ROOT / "infra" / "resources.yaml"),
        str(out),
    ]
    env = child_environment(PIP_CONSTRAINT=str(ROOT / "infra" / "constraints.txt"), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own argv
    template_file = out / "sam.yaml"
    if done.returncode != 0 or not template_file.exists():
        message = f"chalice package failed:\n{done.stdout}{done.stderr}"
        raise DeployError(message)
    template = yaml.safe_load(template_file.read_text())
    _put_definition_in(template)
    (out / "template.json").write_text(json.dumps(template, indent=1))
    _add_bytecode(out / "deployment.zip")
    return Package(template, out / "deployment.zip")


def _add_bytecode(zip_path: Path) -> None:
    """Add compiled modules to the zip: /var/task is read-only, so every cold start would compile them anew.

    Measured on the API's function: importing takes 0.32 s instead of 0.77 s; the zip grows by a quarter. The
    runtime is the Python that packages (chalice sees to that), and a .pyc that did not fit would be ignored.
    """
    with tempfile.TemporaryDirectory(dir=zip_path.parent) as folder:
        with zipfile.ZipFile(zip_path) as archive:
            archive.extractall(folder)
        compileall.compile_dir(
            folder,
            quiet=2,
            stripdir=folder,
            prependdir="/var/task",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        with zipfile.ZipFile(zip_path, "a", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(Path(folder).rglob("*.pyc")):
                archive.write(file, file.relative_to(folder))


def _put_definition_in(template: dict[str, Any]) -> None:
    for name, resource in template["Resources"].items():
        if "Type" not in resource:
            message = (
                f"infra/resources.yaml adds to {name}, which chalice has not packaged: is it registered in app.py?"
            )
            raise DeployError(message)
        if resource["Type"] == "AWS::Serverless::StateMachine":
            file = resource["Properties"].pop("DefinitionUri")
            resource["Properties"]["Definition"] = json.loads((ROOT / "infra" / file).read_text())


# ---------------------------------------------------------------- upload


def _bucket(target: Target) -> str:
    account = target.client("sts").get_caller_identity()["Account"]
    name = f"railyard-{target.stage}-deploy-{account}-{target.region}"
    s3 = target.client("s3")
    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket", "NotFound"}:
            raise
        where = (
            {} if target.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": target.region}}
        )
        s3.create_bucket(Bucket=name, **where)
        s3.put_public_access_block(
            Bucket=name,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
    return name


def _upload(target: Target, built: Package, digest: str) -> str:
    """Upload the zip and the template, point the template at the zip, and return the template's URL."""
    bucket = _bucket(target)
    s3 = target.client("s3")
    code_key = f"{digest}/deployment.zip"
    s3.upload_file(str(built.zip_path), bucket, code_key)
    for resource in built.template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = {"Bucket": bucket, "Key": code_key}
    template_key = f"{digest}/template.json"
    body = json.dumps(built.template, separators=(",", ":")).encode()
    s3.put_object(Bucket=bucket, Key=template_key, Body=body, ContentType="application/json")
    if target.endpoint is not None:
        return f"{target.endpoint}/{bucket}/{template_key}"
    return f"https://{bucket}.s3.{target.region}.amazonaws.com/{template_key}"


# ---------------------------------------------------------------- stack


def _describe(cloudformation: Any, stack: str) -> dict[str, Any] | None:
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return dict(found[0]) if found else None


def _wait(cloudformation: Any, target: Target) -> dict[str, Any]:
    while True:
        stack = _describe(cloudformation, target.stack)
        if stack is None:
            message = f"stack {target.stack} is gone"
            raise DeployError(message)
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        time.sleep(target.poll)


def _reasons(cloudformation: Any, target: Target) -> str:
    events = cloudformation.describe_stack_events(StackName=target.stack)["StackEvents"]
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED")
    )


def _delete_stillborn(cloudformation: Any, target: Target) -> None:
    """A stack whose creation failed can only be deleted; it holds nothing."""
    stack = _describe(cloudformation, target.stack)
    if stack is None or stack["StackStatus"] not in {
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "CREATE_FAILED",
        "REVIEW_IN_PROGRESS",
    }:
        return
    cloudformation.delete_stack(StackName=target.stack)
    while (stack := _describe(cloudformation, target.stack)) is not None:
        if stack["StackStatus"] == "DELETE_FAILED":
            message = f"stack {target.stack} could not be deleted:\n{_reasons(cloudformation, target)}"
            raise DeployError(message)
        if stack["StackStatus"] == "DELETE_COMPLETE":
            return
        time.sleep(target.poll)


def _change(
    cloudformation: Any,
    target: Target,
    template_url: str,
    parameters: dict[str, str],
    digest: str,
) -> dict[str, Any]:
    """Make and execute a change set; return the stack as it is afterwards."""
    _delete_stillborn(cloudformation, target)
    kind = "CREATE" if _describe(cloudformation, target.stack) is None else "UPDATE"
    name = f"railyard-{digest[:12]}-{int(time.time())}"
    made = cloudformation.create_change_set(
        StackName=target.stack,
        ChangeSetName=name,
        ChangeSetType=kind,
        TemplateURL=template_url,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Tags=[{"Key": _DIGEST_TAG, "Value": digest}, {"Key": "railyard-stage", "Value": target.stage}],
    )
    while True:
        change_set = cloudformation.describe_change_set(ChangeSetName=made["Id"], StackName=target.stack)
        if change_set["Status"] in {"CREATE_COMPLETE", "FAILED"}:
            break
        time.sleep(target.poll)
    if change_set["Status"] == "FAILED":
        reason = change_set.get("StatusReason", "")
        if "didn't contain changes" not in reason and "No updates are to be performed" not in reason:
            message = f"change set failed: {reason}"
            raise DeployError(message)
        cloudformation.delete_change_set(ChangeSetName=made["Id"], StackName=target.stack)
        return _wait(cloudformation, target)
    cloudformation.execute_change_set(ChangeSetName=made["Id"], StackName=target.stack)
    stack = _wait(cloudformation, target)
    if stack["StackStatus"] not in _SETTLED:
        message = f"stack {target.stack} is {stack['StackStatus']}:\n{_reasons(cloudformation, target)}"
        raise DeployError(message)
    return stack


# ---------------------------------------------------------------- after the stack


def _reconcile_ttl(target: Target, template: dict[str, Any]) -> None:
    dynamodb = target.client("dynamodb")
    for resource in template["Resources"].values():
        wanted = resource.get("Properties", {}).get("TimeToLiveSpecification")
        if resource["Type"] != "AWS::DynamoDB::Table" or wanted is None:
            continue
        table = resource["Properties"]["TableName"]["Fn::Sub"].replace("${Stage}", target.stage)
        state = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]
        if state not in {"ENABLED", "ENABLING"}:
            dynamodb.update_time_to_live(
                TableName=table, TimeToLiveSpecification={"AttributeName": wanted["AttributeName"], "Enabled": True}
            )


def function_name(target: Target, function: str) -> str:
    """Return the deployed name of a function as .chalice/config.json calls it."""
    return f"{target.stack}-{function.removesuffix('_handler')}"


def reserve_concurrency(target: Target) -> None:
    """Give each function of the stack the reserved concurrency that .chalice/config.json asks for."""
    functions = json.loads((ROOT / ".chalice" / "config.json").read_text())["stages"][target.stage]["lambda_functions"]
    client = target.client("lambda")
    for function, settings in functions.items():
        name = function_name(target, function)
        wanted = settings.get("reserved_concurrency")
        present = client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        if wanted == present:
            continue
        if wanted is None:
            client.delete_function_concurrency(FunctionName=name)
        else:
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=wanted)


def _redeploy_api(target: Target, outputs: dict[str, str]) -> None:
    target.client("apigateway").create_deployment(
        restApiId=outputs["RestAPIId"], stageName=target.stage, description="GatewayResponse resources"
    )


# ---------------------------------------------------------------- the whole


def outputs_of(stack: dict[str, Any]) -> dict[str, str]:
    """Return a stack's outputs as a dictionary."""
    return {row["OutputKey"]: row["OutputValue"] for row in stack.get("Outputs", [])}


def api_base(target: Target, outputs: dict[str, str]) -> str:
    """Where API Gateway serves the API, without a trailing slash."""
    if target.endpoint is not None:
        return f"{target.endpoint}/restapis/{outputs['RestAPIId']}/{target.stage}/_user_request_"
    return outputs["EndpointURL"].rstrip("/")


def _parameters(target: Target, stack: dict[str, Any] | None, public_base_url: str | None) -> dict[str, str]:
    settings = deploy_settings()
    outputs = outputs_of(stack) if stack else {}
    public = public_base_url or settings.public_base_url
    if public is None and target.stage == "local":
        public = local_settings().api_url
    if public is None:
        # API Gateway's own address is known after the first deployment; deploy() then goes round once more.
        # It cannot be a reference inside the template: the API's definition names the function, whose
        # environment would name the API.
        public = api_base(target, outputs) if "RestAPIId" in outputs else _NOT_KNOWN_YET
    parameters = {"Stage": target.stage, "PublicBaseUrl": public}
    if target.stage == "local":
        urls = places.base_urls_by_adapter(HOST, local_settings().sandbox_port)
        parameters["ProviderBaseUrls"] = json.dumps(urls, sort_keys=True)
    elif settings.provider_base_urls:
        if target.stage != "localstack":
            message = (
                f"RAILYARD_PROVIDER_BASE_URLS must not be set for {target.stage}: providers are reached where they are"
            )
            raise DeployError(message)
        parameters["ProviderBaseUrls"] = settings.provider_base_urls
    if settings.alarm_topic_arn:
        parameters["AlarmTopicArn"] = settings.alarm_topic_arn
    if settings.workflow_type:
        parameters["WorkflowType"] = settings.workflow_type
    return parameters


def deploy(target: Target, *, home: Path, public_base_url: str | None = None) -> dict[str, str]:
    """Bring the stack to what the sources say and return its outputs, with ``ApiBase`` added.

    Raises DeployError when packaging, the change set or the stack fails.
    """
    outputs = _deploy_once(target, home, public_base_url)
    if outputs["PublicUrl"] == _NOT_KNOWN_YET:
        outputs = _deploy_once(target, home, public_base_url)
    outputs["ApiBase"] = api_base(target, outputs)
    (home / f"{target.stage}.outputs.json").write_text(json.dumps(outputs, indent=2) + "\n")
    return outputs


def _deploy_once(target: Target, home: Path, public_base_url: str | None) -> dict[str, str]:
    cloudformation = target.client("cloudformation")
    stack = _describe(cloudformation, target.stack)
    parameters = _parameters(target, stack, public_base_url)
    digest = hashlib.sha256(json.dumps([digest_of(target.stage), parameters]).encode()).hexdigest()[:32]
    if stack is not None and stack["StackStatus"] in _SETTLED:
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
        if tags.get(_DIGEST_TAG) == digest:
            return outputs_of(stack)
    built = package(target.stage, home / "build" / target.stage)
    stack = _change(cloudformation, target, _upload(target, built, digest), parameters, digest)
    _reconcile_ttl(target, built.template)
    reserve_concurrency(target)
    _redeploy_api(target, outputs_of(stack))
    return outputs_of(stack)


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy the stage named on the command line."""
    parser = argparse.ArgumentParser(prog="make deploy", description="Package and deploy Railyard.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--endpoint", help="an emulator's edge; default: AWS_ENDPOINT_URL, or what the stage implies")
    parser.add_argument("--public-base-url", help="where merchants and browsers reach the API")
    parser.add_argument("--package-only", action="store_true", help="only package, into .railyard/build/STAGE/out")
    options = parser.parse_args(arguments)
    home = local_settings().home
    began = time.monotonic()
    try:
        if options.package_only:
            built = package(options.stage, home / "build" / options.stage)
            print(f"{built.zip_path}  {built.zip_path.stat().st_size / 1e6:.1f} MB")
            return 0
        outputs = deploy(
            target_for(options.stage, options.endpoint), home=home, public_base_url=options.public_base_url
        )
    except (DeployError, BotoCoreError) as error:
        print(f"railyard-{options.stage} was not deployed: {error}", file=sys.stderr)
        return 1
    for key in sorted(outputs):
        print(f"{key:24} {outputs[key]}")
    print(f"deployed railyard-{options.stage} in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
