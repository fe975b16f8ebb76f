"""A fine-tuning by DSPy's provider, as `BootstrapFinetune` does it, and one that is cancelled.

Arguments: `model`, `data` (rows with messages).
"""

import openai
from dspy.clients.openai import OpenAIProvider, TrainingJobOpenAI
from dspy.clients.utils_finetune import TrainDataFormat
from telling import ARGUMENTS, tell

MODEL, DATA = f"openai/{ARGUMENTS['model']}", ARGUMENTS["data"]
job = TrainingJobOpenAI(model=MODEL, train_data=DATA, train_data_format=TrainDataFormat.CHAT)
model = OpenAIProvider.finetune(job, MODEL, DATA, TrainDataFormat.CHAT, {"n_epochs": 1})
tell("tuned", model=model, status=job.status().name, job=job.provider_job_id)
tell("known", is_ours=OpenAIProvider.is_provider_model(model))

other = TrainingJobOpenAI(model=MODEL, train_data=DATA, train_data_format=TrainDataFormat.CHAT)
other.provider_file_id = OpenAIProvider.upload_data(ARGUMENTS["file"])
made = openai.fine_tuning.jobs.create(
    model=ARGUMENTS["model"],
    training_file=other.provider_file_id,
    extra_body={"training_cluster": ARGUMENTS["endless"]},
)
other.provider_job_id = made.id
try:
    other.cancel()
    tell("cancelled", status=OpenAIProvider.get_training_status(made.id).name)
except openai.APIStatusError as error:
    tell("cancelled", status=error.code)
