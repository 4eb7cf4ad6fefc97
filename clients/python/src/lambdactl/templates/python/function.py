def handle(params, context):
    """`params` are the call's, `context` the session's; what is returned is the answer, as JSON."""
    return {"greeting": f"Hello, {params.get('name', 'world')}!"}
