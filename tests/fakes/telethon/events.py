class _Event:
    def __init__(self, chats=None, func=None):
        assert chats
        self.chats = chats
        self.func = func


class NewMessage(_Event):
    pass


class Album(_Event):
    pass


class MessageEdited(_Event):
    pass


class MessageDeleted(_Event):
    pass
