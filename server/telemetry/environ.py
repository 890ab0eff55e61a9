"""The names in a request's WSGI environment under which middleware leaves what logs and metrics tell of it."""

ROUTE = "similarity.route"  # the method and the rule that matched, never an id
HOLDER = "similarity.key"  # the name of the key that was shown
