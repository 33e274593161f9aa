"""Floor 7: web servers live here and nowhere else: the fine-tuning API, chat, pages."""
