"""What makes, deploys and runs Railyard; nothing in here ships in the Lambda package."""
