"""The names in a request's WSGI environment under which middleware leaves facts for logs and metrics."""

ROUTE = "similarity.route"  # the method and the rule that matched, never an id
HOLDER = "similarity.key"  # the name of the key that was shown
COST = "similarity.cost"  # as how many requests this one counts
