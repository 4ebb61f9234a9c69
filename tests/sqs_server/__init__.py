"""An SQS of the tests' own: as rude as the service may be, checked against botocore's model."""

from .rudeness import CALM, RUDE, Rudeness
from .server import Fault, SqsServer

__all__ = ["CALM", "RUDE", "Fault", "Rudeness", "SqsServer"]
