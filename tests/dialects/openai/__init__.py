"""OpenAI's dialect: translations as tables, and the API as its clients see it."""
