"""Who runs chunks: ``concurrent.futures.Executor`` in the shapes that the command line offers."""
