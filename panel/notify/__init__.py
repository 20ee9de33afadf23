"""Notifications: people are told what happened, by apprise, from the panel's process.

`notices` decides what is told, `messages` when and in which words; both are pure. `reading` reads the bus, `targets` sends,
`service` is the task around them. Nothing here writes to the bus, and no bot knows of it.
"""
