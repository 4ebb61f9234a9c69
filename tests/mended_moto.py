"""Where moto isn't CloudFormation, for `Endpoint(mended=MENDED)`.

AWS::NoValue in a list is left out; a list of words is told as it was given; the content of an SSM
document is JSON; a stack that has only a change set is the next change set's too. A compute
environment without a service role has Batch's service-linked one. Schedule groups can be made. And
quotas of EC2 are those of
the variable ``EC2_QUOTAS``, JSON by code.
"""

from __future__ import annotations

MENDED = r"""
import json
import os
import moto.cloudformation.parsing as parsing
from moto.cloudformation.models import CloudFormationBackend
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.models import ServiceQuotasBackend
from moto.batch.models import ComputeEnvironment
from moto.iam.models import iam_backends
from moto.scheduler.models import scheduler_backends
from moto.ssm.models import Document

class Words(str):
    # A parameter of several words is one text for who asks for it, and a list for the template.
    def split(self, *arguments):
        return Listed(super().split(*arguments))

class Listed(list):
    def __str__(self):
        return ",".join(self)

load, clean = parsing.ResourceMap.load_parameters, parsing.clean_json

def load_lists(self):
    self.input_parameters = {key: Words(value) for key, value in self.input_parameters.items()}
    load(self)

def without_nothing(thing, resources):
    made = clean(thing, resources)
    return [each for each in made if each is not None] if isinstance(thing, list) else made

make = Document.create_from_cloudformation_json.__func__

def with_json(cls, name, json_of, *more, **options):
    content = json_of["Properties"]["Content"]
    properties = {**json_of["Properties"], "Content": json.dumps(content)}
    return make(cls, name, {**json_of, "Properties": properties}, *more, **options)

change = CloudFormationBackend.create_change_set

def change_again(self, stack_name, *more, **options):
    for key, stack in list(self.stacks.items()):
        if stack.name == stack_name and stack.status == "REVIEW_IN_PROGRESS":
            del self.stacks[key]
    return change(self, stack_name, *more, **options)

def quota(self, service_code, quota_code):
    known = json.loads(os.environ.get("EC2_QUOTAS", "{}"))
    if quota_code not in known:
        raise NoSuchResource
    return {"QuotaName": f"quota {quota_code}", "Value": known[quota_code]}

compute = ComputeEnvironment.create_from_cloudformation_json.__func__

def with_linked_role(cls, name, json_of, account_id, region_name, **options):
    iam = iam_backends[account_id]["aws"]
    try:
        role = iam.get_role("AWSServiceRoleForBatch")
    except Exception:
        path = "/aws-service-role/batch.amazonaws.com/"
        role = iam.create_role("AWSServiceRoleForBatch", "{}", path, None, "", {}, 3600)
    asked = json_of["Properties"]
    resources = dict(asked["ComputeResources"])
    for each in ("MaxvCpus", "MinvCpus"):
        if each in resources:
            resources[each] = int(resources[each])
    properties = {**asked, "ServiceRole": role.arn, "ComputeResources": resources}
    made = {**json_of, "Properties": properties}
    return compute(cls, name, made, account_id, region_name, **options)

class Group(parsing.CloudFormationModel):
    __module__ = "moto.scheduler.models"  # moto finds the service by it

    @staticmethod
    def cloudformation_name_type():
        return "Name"

    @staticmethod
    def cloudformation_type():
        return "AWS::Scheduler::ScheduleGroup"

    @classmethod
    def create_from_cloudformation_json(cls, name, json_of, account_id, region_name, **_):
        backend = scheduler_backends[account_id][region_name]
        made = backend.create_schedule_group(json_of["Properties"]["Name"], [])
        made.physical_resource_id, made.type = made.name, cls.cloudformation_type()
        return made

ComputeEnvironment.create_from_cloudformation_json = classmethod(with_linked_role)
CloudFormationBackend.create_change_set = change_again
ServiceQuotasBackend.get_service_quota = quota
parsing.ResourceMap.load_parameters = load_lists
parsing.clean_json = without_nothing
Document.create_from_cloudformation_json = classmethod(with_json)
"""
