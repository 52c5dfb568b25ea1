"""Whether and when a request may go on. The queue decides and is pure; `turns` lets asyncio tasks wait in it."""
