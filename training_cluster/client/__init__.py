"""The Python client: the daemon's HTTP API as objects, for notebooks and for the command line.

from training_cluster.client import Client

client = Client()
job = client.submit(dataset_version="v1.0", num_epochs=1)
print(client.wait(job.job_id).status)
"""

from training_cluster.client.answers import (
    About,
    Attempt,
    Cancelled,
    Check,
    Device,
    Devices,
    Hold,
    Job,
    JobError,
    Progress,
    Queue,
    QueuedJob,
    Ready,
    Released,
    RunningJob,
    Submitted,
    WaitReason,
)
from training_cluster.client.client import DEFAULT_URL, Client
from training_cluster.client.control import Controlled
from training_cluster.client.datasets import Dataset, Datasets
from training_cluster.client.disk import Pruned
from training_cluster.client.errors import (
    ApiError,
    CannotConnect,
    ClientError,
    FieldProblem,
    WaitTimedOut,
)
from training_cluster.client.gpus import Gpus, Quarantine, Tolerance
from training_cluster.client.history import Curve, Event, MetricLine, Metrics
from training_cluster.client.models import BaseModel, Model, Models
from training_cluster.client.tokens import IssuedToken, Token
from training_cluster.client.webhooks import Delivery, DeliveryDetail, UnveiledWebhook, Webhook

__all__ = [
    "DEFAULT_URL",
    "About",
    "ApiError",
    "Attempt",
    "BaseModel",
    "Cancelled",
    "CannotConnect",
    "Check",
    "Client",
    "ClientError",
    "Controlled",
    "Curve",
    "Dataset",
    "Datasets",
    "Delivery",
    "DeliveryDetail",
    "Device",
    "Devices",
    "Event",
    "FieldProblem",
    "Gpus",
    "Hold",
    "IssuedToken",
    "Job",
    "JobError",
    "MetricLine",
    "Metrics",
    "Model",
    "Models",
    "Progress",
    "Pruned",
    "Quarantine",
    "Queue",
    "QueuedJob",
    "Ready",
    "Released",
    "RunningJob",
    "Submitted",
    "Token",
    "Tolerance",
    "UnveiledWebhook",
    "WaitReason",
    "WaitTimedOut",
    "Webhook",
]
