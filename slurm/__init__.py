"""How Runs reach a cluster: profiles, submission, requeue, status. Imported without torch."""
