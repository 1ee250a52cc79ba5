"""What the tests share: the service, its client, deadlines, and a look into /proc."""
