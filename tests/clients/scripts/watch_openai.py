"""Lists the fine-tuning jobs each time the test asks."""

import openai
from telling import hear, tell

client = openai.OpenAI()
tell("ready")
while hear()["look"]:
    tell("seen", jobs={job.id: job.status for job in client.fine_tuning.jobs.list()})
