"""The names in a request's WSGI environment under which middleware leaves facts for logs, metrics, the
audit and routes."""

ROUTE = "similarity.route"  # the method and the rule that matched, never an id
HOLDER = "similarity.key"  # the name of the key that was shown
ACTOR = "similarity.actor"  # the key that opened an admin route, as the audit log names it
PARTITION, WHAT = "similarity.partition", "similarity.what"  # which partition is changed, and facts of the change
CLIENT = "similarity.client"  # which may be gone by now
COST = "similarity.cost"  # as how many requests this one counts
