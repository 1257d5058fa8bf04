"""What moto lacks of SageMaker and a teardown needs: what is in Studio's domains, and that things in use stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.sagemaker.models import sagemaker_backends

PREFIX = "arn:aws:sagemaker:{region}:" + DEFAULT_ACCOUNT_ID
#: The name of each kind's listing, and what tells its items apart.
KINDS = {
    "App": ("Apps", ("DomainId", "UserProfileName", "SpaceName", "AppType", "AppName")),
    "Space": ("Spaces", ("DomainId", "SpaceName")),
    "UserProfile": ("UserProfiles", ("DomainId", "UserProfileName")),
}


class Sagemaker:
    """One account's.

    Args:
        error: makes an error as AWS sends it.
    """

    def __init__(self, error: Callable[..., Exception]) -> None:
        self.error = error
        self.things: dict[tuple, dict[str, Any]] = {}
        self.tags: dict[str, list[dict[str, str]]] = {}
        self.retention: dict[str, str] = {}

    def answer(self, operation: str, request: dict[str, Any], region: str, go_on: Callable[[], Any]) -> Any:
        """The answer of moto where it has one."""
        backend = sagemaker_backends[DEFAULT_ACCOUNT_ID][region]
        verb = next((verb for verb in ("Create", "Delete", "List") if operation.startswith(verb)), "")
        noun = operation.removeprefix(verb)
        if verb == "List" and noun.removesuffix("s") in KINDS:
            kind = noun.removesuffix("s")
            return {noun: [one for key, one in list(self.things.items()) if key[:2] == (region, kind)]}
        if verb in ("Create", "Delete") and noun in KINDS:
            key = (region, noun, *(request.get(member) for member in KINDS[noun][1]))
            return self.create(key, request) if verb == "Create" else self.delete(key, operation)
        if operation == "DeleteDomain":
            self.refuse_while([key for key in self.things if key[2] == request["DomainId"]], operation)
            self.retention[request["DomainId"]] = request["RetentionPolicy"]["HomeEfsFileSystem"]
        if operation == "ListTags" and request["ResourceArn"] in self.tags:
            return {"Tags": self.tags[request["ResourceArn"]]}
        configs = backend.notebook_instance_lifecycle_configurations
        if operation == "ListTags" and "lifecycle-config/" in request["ResourceArn"]:
            return {"Tags": self.tags.get(request["ResourceArn"], [])}
        if operation == "CreateNotebookInstanceLifecycleConfig":
            answer = go_on()
            self.tags[answer["NotebookInstanceLifecycleConfigArn"]] = request.get("Tags", [])
            return answer
        if operation == "ListNotebookInstanceLifecycleConfigs":
            noun = "NotebookInstanceLifecycleConfig"
            return {f"{noun}s": [{f"{noun}Name": name, f"{noun}Arn": one.arn} for name, one in configs.items()]}
        if operation == "StopTrainingJob":
            backend.training_jobs[request["TrainingJobName"]].training_job_status = "Stopped"
            return {}
        return go_on()

    def create(self, key: tuple, request: dict[str, Any]) -> dict[str, Any]:
        arn = ":".join([PREFIX.format(region=key[0]), "/".join([ARN[key[1]], *(part for part in key[2:] if part)])])
        arn = arn.replace("JupyterLab", "jupyterlab")
        self.things[key] = {name: value for name, value in request.items() if name != "Tags"} | {"Status": "InService"}
        self.tags[arn] = request.get("Tags", [])
        return {}

    def delete(self, key: tuple, operation: str) -> dict[str, Any]:
        if key not in self.things:
            raise self.error("ResourceNotFound", operation)
        region, kind, domain, *names = key
        within = [other for other in self.things if other[:1] == (region,) and other[2] == domain and other != key]
        if kind == "Space":
            self.refuse_while([other for other in within if other[1] == "App" and names[0] in other], operation)
        if kind == "UserProfile":
            owned = [
                other
                for other in within
                if self.things[other].get("OwnershipSettings", {}).get("OwnerUserProfileName") == names[0]
            ]
            self.refuse_while([*owned, *(o for o in within if o[1] == "App" and names[0] in o)], operation)
        del self.things[key]
        return {}

    def refuse_while(self, others: list[tuple], operation: str) -> None:
        if others:
            raise self.error("ResourceInUse", operation, f"still used by {others}")


ARN = {"App": "app", "Space": "space", "UserProfile": "user-profile"}
