"""Have a base model fetched, wait for it, and list what is there."""

import lamini
from telling import ARGUMENTS, tell

llm = lamini.Lamini(model_name=ARGUMENTS["model"])
began = llm.download_model(ARGUMENTS["model"])
tell("began", model=vars(began))
found = llm.download_model(ARGUMENTS["model"], wait=True, wait_time_seconds=ARGUMENTS["longest"])
tell("fetched", model=vars(found))
tell("listed", models=[vars(model) for model in llm.list_models()])
