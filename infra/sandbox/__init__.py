"""The sandbox bank: a provider of payments that keeps its own record of what really happened."""
