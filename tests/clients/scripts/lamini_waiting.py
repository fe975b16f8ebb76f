"""train_and_wait and evaluate, as scripts mostly use them."""

import time
from importlib.metadata import version

import lamini
from telling import ARGUMENTS, tell

NEW = version("lamini") > "3"
# between two looks the client sleeps for half a minute
long_sleep = time.sleep
time.sleep = lambda seconds: long_sleep(min(seconds, 0.2))

llm = lamini.Lamini(model_name=ARGUMENTS["model"])
more = {"custom_model_name": "lunch bot"} if NEW else {}
status = llm.train_and_wait(ARGUMENTS["rows"], finetune_args=ARGUMENTS["finetune_args"], **more)
tell("over", status=status)
while True:
    answer = llm.evaluate(status["job_id"])
    if answer["status"] != "EVALUATING MODEL":
        break
tell("evaluated", answer=answer)
